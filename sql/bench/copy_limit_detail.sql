-- Take the details of a drop. In: CSV rows. Out: nothing.
copy limit_detail from stdin (format csv)
