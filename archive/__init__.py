"""What the archive holds: patients, studies, files, file systems; the database they live in."""
