-- Record why a drop was refused; a drop that was merged before, undone, or waits for a decision, stays so.
-- In: sha256, error. Out: nothing.
update drop_file
set status = 'refused', error = %(error)s
where sha256 = %(sha256)s and status not in ('merged', 'undone', 'held', 'declined')
