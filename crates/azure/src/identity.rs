//! Managed identities: which endpoint this machine has, what is asked of it, and the token it answers with.
