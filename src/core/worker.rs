//! This node's hands: queue, start, yield to a thief, report. Pure.
