-- Forgets what was touched, to be found again after changes were taken out.
-- In, out: touched.
truncate touched
