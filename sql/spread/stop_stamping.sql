-- Have batches no longer stamped by a trigger on their own table.
-- In, out: nothing.
drop trigger if exists batch_is_stamped on batch
