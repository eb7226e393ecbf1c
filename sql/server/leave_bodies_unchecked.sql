-- Create functions without checking their bodies, until the transaction ends: a body may read a relation that exists only in some
-- search path. In, out: nothing.
set local check_function_bodies = off
