//! The leader's opinion: who runs what, who may take it from whom. Pure.
