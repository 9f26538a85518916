//! Azure Resource Manager, as far as a function app looks after itself: its site, its app settings, its triggers.
