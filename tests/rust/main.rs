//! One test binary.

<<<<<<< HEAD
mod tidy;
=======
mod client;
>>>>>>> client
