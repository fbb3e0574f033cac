mod usage;
