//! The promises of a store: one suite, run against PostgreSQL and against SQLite.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod batches;
mod bounded;
mod commit;
mod concurrency;
mod dead_letters;
mod erase;
mod feed;
mod inspect;
mod ledger;
mod meters;
mod outcomes;
mod overdue;
mod postgres;
mod put_aside;
mod queries;
mod receipts;
mod retention;
mod schemas;
mod series;
mod settings;
mod sqlite;
mod stores;

/// Runs each case against these stores, each in a schema or a file of its own.
macro_rules! on_stores {
    ($($store:ident as $module:ident),*; $cases:tt) => {
        $(on_stores!(@one $store as $module; $cases);)*
    };
    (@one $store:ident as $module:ident; {$($file:ident: $($case:ident)*;)*}) => {
        mod $module {
            $(mod $file {
                $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    crate::$file::$case(crate::stores::TestStore::$store().await).await;
                })*
            })*
        }
    };
}

// A schema of an older version has all events in one table, and a file of an older version all keys in one index.
on_stores! {
    postgres as on_postgres, in_one_table as on_postgres_in_one_table, sqlite as on_sqlite,
    sqlite_by_index as on_sqlite_by_index; {
    bounded:
        what_matches_is_what_the_patterns_say
        the_events_of_several_topics_are_merged_in_the_order_of_arrival
        more_topics_than_can_be_merged_are_found_by_looking_at_all_rows
        bounded_statistics_list_the_largest_topics_beside_exact_totals
        a_whole_entry_is_in_no_bounded_list_of_dead_letters;
    commit:
        a_batch_is_stored_and_counted
        an_event_comes_back_exactly_as_it_was_sent
        a_topic_may_be_empty_or_hold_what_has_a_meaning_in_sql
        a_repeated_entry_is_skipped
        a_repeated_entry_is_skipped_also_within_one_batch
        a_repeated_request_is_skipped_and_the_rest_of_its_entry_is_not
        duplicates_inside_a_batch_are_dropped_in_stream_order
        a_duplicate_with_another_payload_is_a_conflict_and_the_first_payload_stays
        equal_payloads_under_different_ids_stay_apart
        a_transaction_that_is_dropped_leaves_nothing_behind
        what_was_not_committed_is_new_when_it_comes_again
        a_large_batch_is_stored_whole
        the_audit_trail_has_a_row_for_each_dropped_duplicate
        attempts_are_counted_until_the_entry_is_committed
        an_attempt_that_was_taken_back_does_not_count
        a_forced_key_collision_drops_the_second_event_as_a_conflict;
    concurrency:
        two_commits_of_the_same_entries_at_once_store_them_once
        a_request_repeated_in_entries_committed_at_once_is_counted_once
        overlapping_keys_in_opposite_order_lose_nothing
        every_committed_state_is_consistent_while_batches_are_committed;
    dead_letters:
        refused_rows_are_dead_lettered_and_all_others_are_stored
        when_one_arrival_of_a_key_is_refused_the_next_one_is_tried
        a_batch_of_nothing_but_refused_rows_is_committed
        a_dead_letter_is_refused_as_long_as_its_cause_lasts_and_replayed_once_after
        a_dead_letter_replayed_twice_at_once_is_stored_once
        a_whole_entry_dead_lettered_is_not_dead_lettered_again
        dead_letters_are_listed_newest_first_in_pages;
    erase:
        an_erased_event_has_no_content_and_stays_a_duplicate
        all_events_with_the_topic_and_id_are_erased_whatever_their_source
        an_erased_event_that_comes_back_after_its_row_was_lost_has_no_content
        erasing_removes_an_event_from_dead_letters_and_counts_it_as_discarded
        a_meter_forgets_the_latest_value_of_an_erased_event
        conflicts_are_kept_in_pages_and_erased_with_their_event
        old_conflicts_are_removed_and_those_beyond_the_bound;
    feed:
        followers_see_every_event_once_and_in_order_while_transactions_are_held_open
        filters_select_from_the_feed_across_partitions
        after_a_loss_a_cursor_goes_on_where_the_generations_part_and_says_so
        a_cursor_of_another_history_begins_anew_and_says_so
        a_cursor_is_the_number_of_an_event_although_later_numbers_were_given;
    inspect:
        dead_letters_are_selected_by_code_and_time
        a_page_of_large_dead_letters_ends_early_and_goes_on
        a_list_never_has_the_body_of_a_whole_entry
        what_killed_its_reader_is_selected_for_a_replay_only_by_its_code
        a_discarded_dead_letter_is_gone_and_counted;
    ledger:
        a_second_append_of_an_entry_is_counted_and_a_second_delivery_is_not
        the_events_of_a_repeated_request_are_counted_by_topic
        a_dead_letter_of_an_entry_is_counted_once_per_append
        removed_events_and_audit_rows_are_counted;
    meters:
        an_event_is_counted_if_and_only_if_it_was_stored
        windows_of_all_lengths_agree
        what_was_not_committed_is_not_counted
        a_meter_that_is_added_counts_what_is_before_and_after_it_once
        a_changed_meter_shows_its_former_figures_until_the_new_ones_are_complete
        a_meter_that_is_put_again_stays_as_it_is
        of_two_meters_that_are_put_at_once_one_is_added
        a_removed_meter_is_gone_with_its_windows
        there_are_no_more_meters_than_may_be
        retention_waits_for_the_backfill_and_a_later_meter_says_what_is_missing
        windows_that_ended_before_the_retention_are_removed_and_no_others
        figures_stay_exact_while_batches_are_committed_and_added_up
        what_is_damaged_is_said_and_nothing_is_lost
        a_store_with_meters_is_none_for_versions_that_do_not_know_them;
    outcomes:
        the_outcome_of_a_request_says_what_became_of_its_events_and_stays
        the_outcome_names_what_was_refused_and_stays_when_it_is_replayed;
    overdue:
        events_are_overdue_from_the_end_of_the_retention_until_they_are_removed
        what_cannot_be_removed_is_told_for_as_long_as_it_is_there
        a_partition_is_due_until_it_is_closed
        a_partition_whose_filter_cannot_be_built_is_counted;
    put_aside:
        a_request_that_was_put_aside_is_skipped_when_it_is_sent_again
        a_request_that_was_stored_before_is_not_put_aside_a_second_time
        an_entry_whose_requests_are_all_stored_is_no_dead_letter
        an_entry_that_is_delivered_again_after_it_was_put_aside_is_replayed_whole;
    queries:
        events_are_listed_newest_first
        each_filter_holds_and_all_hold_together
        pages_neither_skip_nor_repeat_while_events_arrive
        a_page_of_large_events_ends_early_and_goes_on
        a_page_is_bounded_also_when_large_events_follow_small_ones
        a_page_may_be_asked_to_end_at_fewer_bytes
        a_filter_without_an_index_finds_what_is_rare_and_ends_where_nothing_matches
        the_statistics_list_the_largest_topics_beside_exact_totals
        topics_are_listed_in_pages_each_once
        the_same_id_in_two_topics_is_two_events
        where_the_source_tells_events_apart_all_are_found
        a_row_that_changed_on_the_disk_is_marked_and_the_others_are_not
        an_empty_store_answers_everything;
    receipts:
        receipts_are_dropped_only_after_their_time
        a_receipt_that_is_used_again_is_retained_as_long_as_a_new_one;
    retention:
        old_events_go_and_the_statistics_say_how_far_back_duplicates_are_recognised
        without_retention_nothing_goes
        a_call_that_ends_for_lack_of_time_says_that_more_is_left
        the_clock_of_a_publisher_does_not_decide_when_its_events_go
        a_clock_that_is_set_forward_or_back_removes_nothing_and_keeps_nothing
        a_process_that_starts_after_a_long_time_removes_nothing_in_its_first_call
        an_event_that_retention_removed_is_new_again;
    schemas:
        a_schema_is_put_changed_and_removed_and_its_versions_are_kept
        schemas_are_bounded_by_their_number_their_size_and_the_number_of_versions
        of_schemas_that_are_put_at_once_each_is_a_version
        the_versions_of_topics_that_were_removed_long_ago_are_forgotten;
    series:
        events_are_counted_in_the_minute_in_which_they_were_accepted
        the_ends_of_a_series_are_its_first_minute_and_the_one_after_its_last
        dead_letters_are_counted_when_they_become_some_and_their_events_when_they_are_replayed
        a_whole_entry_that_is_dead_lettered_is_counted_without_a_topic
        a_series_stays_exact_while_batches_are_committed_and_added_up
        minutes_that_ended_before_the_retention_are_removed_and_no_others;
    settings:
        a_store_made_with_other_dedup_fields_is_refused
        what_is_stored_is_there_after_opening_it_again
        migrating_again_and_by_several_at_once_changes_nothing;
}}

// Events that were stored before there were marks of arrival are in no partition.
on_stores! {
    in_one_table as before_marks_on_postgres, sqlite as before_marks_on_sqlite; {
    retention:
        events_that_were_stored_before_there_were_marks_go_by_the_time_of_the_publisher;
}}
