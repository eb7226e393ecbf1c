"""A file of any format as chunks of text: CSV, lines of JSON, Parquet, Excel, also packed or in another encoding."""
