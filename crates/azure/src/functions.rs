//! What the Functions host and a custom handler say to each other: invocations in, outcomes out.
