//! When this node suspects the leader, when it campaigns, to whom a leader yields. Pure.
