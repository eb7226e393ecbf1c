-- Whether another account than this one is an active admin's.
-- In: username. Out: one row: has_other_admin.
select exists (select from account where role = 'admin' and is_active and username <> %(username)s)
