-- The ledger of one entity in recording order: who changed what, when it was recorded, from where, and the state before and after.
-- In: entity_uid. Out: document.
select json_build_object(
           'entity_uid', l.entity_uid, 'change_ts', utc(l.change_ts), 'recorded_at', utc(b.recorded_at), 'op', l.op,
           'actor', b.actor,
           'source', case b.source
               when 'drop' then json_build_object(
                   'kind', b.source, 'sha256', b.drop_sha256, 'file_name', f.file_name, 'line', l.row_no)
               else json_build_object('kind', b.source, 'request_id', b.request_id) end,
           'asserted', json_build_object('display_name', l.display_name, 'entity_type', et.code, 'details', l.details),
           'before', (
               select json_build_object('display_name', e.display_name, 'entity_type', was.code, 'details', (
                          select coalesce(json_object_agg(dt.code, d.detail_value order by dt.code), '{}')
                          from entity_detail d
                          join detail_type dt on dt.detail_type_id = d.detail_type_id
                          where d.entity_uid = %(entity_uid)s
                            and d.valid_from < l.change_ts and (d.valid_to >= l.change_ts or d.valid_to is null)))
               from entity e
               join entity_type was on was.entity_type_id = e.entity_type_id
               where e.entity_uid = %(entity_uid)s
                 and e.valid_from < l.change_ts and (e.valid_to >= l.change_ts or e.valid_to is null)),
           'after', (
               select json_build_object('display_name', e.display_name, 'entity_type', was.code, 'details', (
                          select coalesce(json_object_agg(dt.code, d.detail_value order by dt.code), '{}')
                          from entity_detail d
                          join detail_type dt on dt.detail_type_id = d.detail_type_id
                          where d.entity_uid = %(entity_uid)s
                            and d.valid_from <= l.change_ts and (d.valid_to > l.change_ts or d.valid_to is null)))
               from entity e
               join entity_type was on was.entity_type_id = e.entity_type_id
               where e.entity_uid = %(entity_uid)s
                 and e.valid_from <= l.change_ts and (e.valid_to > l.change_ts or e.valid_to is null)))::text
from ledger l
join batch b on b.batch_id = l.batch_id
left join drop_file f on f.sha256 = b.drop_sha256
left join entity_type et on et.entity_type_id = l.entity_type_id
where l.entity_uid = %(entity_uid)s
order by l.batch_id, l.row_no
