-- Create functions without looking at their bodies, until the transaction ends: a body may read a relation that only a search path
-- makes. In, out: nothing.
set local check_function_bodies = off
