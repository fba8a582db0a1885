"""A page to drop a head on: uploads, a queue with one job at a time, and each job's report."""
