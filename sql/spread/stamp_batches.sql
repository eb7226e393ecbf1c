-- Have batches stamped when they are committed. (A constraint trigger cannot be replaced, so its function was dropped with it before.)
-- In, out: nothing.
create constraint trigger batch_is_stamped after insert on batch_to_stamp
    deferrable initially deferred for each row execute function stamp_spread_batch()
