//! Every promise of [`Ledger`] as a check. Whatever passes all of them is a backend.
//!
//! Public and not behind a test flag, so that a backend or a wrapper in another crate runs the same suite. A check
//! that fails panics, as a test does.

mod compaction;
mod coverage;
mod discovery;
mod leases;
mod listing;
mod naming;
mod numbers;
mod retrying;
mod scene;
mod settling;
mod sinks;

use std::sync::Arc;

use crate::Ledger;

macro_rules! run_each {
    ($make:ident: $($check:path),+ $(,)?) => {{
        let mut names: Vec<&'static str> = Vec::new();
        $(
            names.push(stringify!($check));
            $check($make().await).await;
        )+
        names
    }};
}

/// Runs every check, each on a ledger of its own that the factory makes empty, and returns their names.
///
/// # Panics
/// When a promise is not kept.
pub async fn run(make: impl AsyncFn() -> Arc<dyn Ledger>) -> Vec<&'static str> {
    run_each![make:
        discovery::a_blob_is_new_once,
        discovery::the_same_id_elsewhere_is_another_blob,
        discovery::a_listing_replaces_what_a_notification_said,
        discovery::a_notification_replaces_nothing,
        discovery::the_farthest_times_there_are_can_be_kept,
        discovery::a_settled_blob_seen_again_stays_settled,
        discovery::what_was_never_noted_is_told_apart_whatever_became_of_the_rest,
        listing::windows_that_touch_extend_the_stretch,
        listing::a_window_beyond_a_gap_waits_for_the_gap_to_close,
        listing::listing_again_or_earlier_moves_nothing,
        listing::a_gap_that_cannot_be_closed_is_passed_and_stays_visible,
        listing::tenants_and_content_types_are_listed_apart,
        leases::a_lease_carries_what_was_noted,
        leases::the_nearest_expiry_is_leased_first,
        leases::no_more_are_leased_than_asked_for,
        leases::a_leased_blob_is_leased_again_only_when_the_lease_ran_out,
        leases::every_attempt_is_counted_save_released_ones,
        leases::a_blob_given_back_for_later_waits_until_then,
        leases::a_blob_given_back_is_lost_to_its_old_key,
        leases::excepted_tenants_are_left_alone,
        leases::blobs_that_the_sinks_have_are_left_alone,
        leases::a_renewed_lease_lasts_longer,
        leases::a_lease_that_ran_out_is_good_until_somebody_takes_the_blob,
        leases::a_lost_lease_settles_nothing,
        leases::no_two_workers_get_the_same_blob,
        naming::only_the_named_blobs_are_leased,
        naming::a_named_blob_is_leased_by_the_same_rules,
        naming::no_two_workers_get_the_same_named_blob,
        sinks::only_whole_blobs_are_proof,
        sinks::what_a_sink_has_comes_with_the_next_lease,
        sinks::a_whole_blob_takes_the_place_of_its_parts,
        sinks::the_same_place_with_other_content_is_another_part,
        sinks::what_a_sink_has_is_a_fact_even_when_the_lease_was_lost,
        sinks::a_position_is_kept_until_the_next_one,
        sinks::a_commit_with_an_unknown_blob_records_nothing,
        settling::a_blob_is_delivered_when_every_required_sink_said_yes,
        settling::a_delivery_that_nobody_was_asked_to_take_is_refused,
        settling::proof_of_one_blob_is_no_proof_of_another,
        settling::what_a_sink_had_before_need_not_be_proved_again,
        settling::a_refused_delivery_does_not_hold_up_the_others,
        settling::the_last_acknowledgement_delivers_what_it_completes_and_nothing_else,
        settling::blobs_of_several_tenants_are_delivered_by_one_commit,
        settling::an_acknowledgement_under_a_lost_lease_delivers_nothing,
        settling::a_settled_blob_is_never_leased_again,
        settling::a_quarantined_blob_keeps_its_bytes_and_reason,
        settling::a_quarantined_record_is_kept_once_per_sink,
        settling::quarantine_is_read_page_by_page,
        numbers::counts_add_up,
        numbers::counters_are_found_by_prefix,
        numbers::counts_of_many_tasks_at_once_add_up,
        numbers::facts_are_kept_until_the_next_value,
        numbers::the_summary_follows_a_blob_through_its_life,
        numbers::the_summary_adds_up_per_tenant_and_content_type,
        numbers::the_summary_knows_the_oldest_and_the_nearest,
        coverage::listing_began_where_the_first_caller_said,
        coverage::a_window_listed_again_has_the_numbers_of_the_last_time,
        coverage::a_wider_window_absorbs_and_a_narrower_one_stands_beside,
        coverage::coverage_shows_the_windows_of_the_range_and_no_others,
        coverage::coverage_counts_the_blobs_of_the_range_by_their_state,
        coverage::what_is_not_delivered_is_named_page_by_page,
        coverage::unsettled_blobs_are_counted_by_the_hour_in_which_they_expire,
        compaction::windows_are_merged_by_the_day_and_a_gap_stays,
        compaction::delivered_blobs_are_forgotten_into_their_days_and_no_others,
        compaction::a_forgotten_blob_is_not_brought_back,
        compaction::small_steps_come_to_the_same,
        retrying::a_retried_record_is_a_blob_of_its_own_until_it_is_delivered,
        retrying::a_retried_record_that_nobody_could_decode_is_for_every_sink,
        retrying::a_retried_record_that_is_refused_again_is_a_new_item,
        retrying::a_retried_blob_comes_back_under_its_name,
        retrying::a_blob_that_microsoft_no_longer_has_is_retried_from_its_bytes,
        retrying::a_retried_blob_that_fails_again_is_a_new_item_with_the_bytes_there_are,
        retrying::a_blob_gone_while_it_was_retried_keeps_its_bytes,
        retrying::a_retried_blob_without_bytes_can_expire,
        retrying::what_a_person_drops_leaves_its_trace,
        retrying::what_is_being_retried_cannot_be_dropped,
        retrying::a_name_that_somebody_has_taken_keeps_no_record_from_being_retried,
    ]
}
