-- Picks entities that a merged drop names: those of every so-manieth of its changes, so that about `at_most` are picked.
-- In: sha256, at_most. Out: entity_uid.
select distinct entity_uid
from drop_file
join ledger using (batch_id)
where sha256 = %(sha256)s and row_no %% greatest(1, rows_read / %(at_most)s) = 0
