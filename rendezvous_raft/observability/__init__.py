"""What a process tells about itself: metrics and logs. Knows no other part of the system."""
