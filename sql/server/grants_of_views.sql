-- Return the commands that give other roles the rights to the views of the routines that they have now: who drops a view drops them.
-- In: nothing. Out: the name of the view, command.
select c.oid::regclass::text,
       format('grant %s on %s to %s', privilege_type, c.oid::regclass, case when grantee = 0 then 'public' else grantee::regrole::text end)
from pg_class c
join pg_namespace n on n.oid = relnamespace
cross join aclexplode(relacl)
where relkind = 'v' and nspname in ('known', 'single') and grantee <> relowner
order by 1, 2
