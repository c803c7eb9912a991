"""What every command shares: options, exit statuses, files, the choice of data, recipes."""
