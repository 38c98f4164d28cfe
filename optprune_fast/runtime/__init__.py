"""What everything above needs and no operation owns: dispatch, errors, threads, safe files, the doctor."""
