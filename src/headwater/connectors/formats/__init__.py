"""The formats of files: CSV, Excel, JSON and Parquet. Each module implements `FileFormat`."""
