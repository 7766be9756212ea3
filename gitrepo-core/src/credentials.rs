//! Secrets → what may be shown to a host, and which host keys are believed.
