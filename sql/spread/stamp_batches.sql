-- Have batches stamped when they are committed.
-- In, out: nothing.
drop trigger if exists batch_is_stamped on batch_to_stamp;
create constraint trigger batch_is_stamped after insert on batch_to_stamp
    deferrable initially deferred for each row execute function stamp_spread_batch()
