"""What is wrong with a cluster: one module for each subject, each check a function that only looks."""
