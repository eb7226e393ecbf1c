-- Return the moments of a drop's first rows that may change something, in order of the file; its work tables must exist.
-- In: limit; named_entity, staged_change. Out: change_ts, entity_uid.
select s.change_ts, s.entity_uid
from named_entity n
join staged_change s on s.entity_uid = n.entity_uid
where n.route in ('new', 'splice', 'fold')
order by s.row_no
limit %(limit)s
