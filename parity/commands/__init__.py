"""The commands, one file each: from options to files and an exit status."""
