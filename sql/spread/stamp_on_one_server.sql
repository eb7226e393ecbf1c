-- Have batches stamped by a trigger on their own table again, in a database of one server that was restored from a distributed one.
-- In, out: nothing.
create constraint trigger batch_is_stamped after insert on batch
    deferrable initially deferred for each row
    when (new.recorded_at >= now()) execute function stamp_batch()
