"""Files and options that mean harm, or were damaged: read rightly, or refused in one line."""
