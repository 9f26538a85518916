//! Tests of the names of record types.

use super::*;

#[test]
fn the_table_is_sorted_without_repetition() {
    assert!(NAMES.windows(2).all(|pair| pair[0].0 < pair[1].0));
}

#[test]
fn every_number_of_the_table_is_found() {
    assert_eq!(NAMES.len(), 471);
    for (id, name) in NAMES {
        assert_eq!(record_type_name(*id), Some(*name));
    }
}

#[test]
fn a_number_that_two_tables_disagree_on_has_the_name_of_the_metadata() {
    assert_eq!(record_type_name(15), Some("AzureActiveDirectoryStsLogon"));
    assert_eq!(record_type_name(370), Some("CrossTenantAccessPolicy"));
    assert_eq!(record_type_name(376), Some("SentinelNotebookOnLake"));
}

#[test]
fn a_number_outside_of_the_table_has_no_name() {
    for id in [i64::MIN, -1, 0, 26, 27, 137, 367, 476, i64::MAX] {
        assert_eq!(record_type_name(id), None, "{id}");
    }
}
