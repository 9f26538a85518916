//! How the demo's figures read.

use super::rate;

#[test]
fn a_rate_has_no_fraction() {
    assert_eq!(rate(9_491.316_6), "9,491/s");
    assert_eq!(rate(0.0), "0/s");
}
