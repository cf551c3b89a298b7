"""What recipes share: data scoring, training, and the job that turns stages into a report."""
