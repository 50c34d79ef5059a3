"""The metrics as plain functions, each in the file of its name; `../<name>` holds its module of `evaluate`."""
