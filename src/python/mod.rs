//! **Speaks.** pyo3: converts and forwards, nothing else.
