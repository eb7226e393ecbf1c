-- Records one change, by the same fold as a merge of many.
-- In: the change's fields, actor, source, request_id. Out: batch_id, recorded_at and the counts, as of a merge.
select batch_id, recorded_at, rows_changed, rows_late, rows_superseded, entity_versions_added, detail_versions_added
from record_change(%(entity_uid)s, %(change_ts)s, %(op)s, %(display_name)s, %(entity_type_id)s::smallint,
                   %(details)s::jsonb, %(actor)s, %(source)s, %(request_id)s)
