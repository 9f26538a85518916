//! Azure Storage: accounts, and the tables, queues and blobs in them.
