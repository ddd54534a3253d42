//! The first byte chooses a decoder, the rest is what it reads. `make fuzz`.

#![no_main]

use hustings::node::transport::decoders::DECODERS;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Some((which, rest)) = bytes.split_first() {
        (DECODERS[usize::from(*which) % DECODERS.len()].read)(rest);
    }
});
