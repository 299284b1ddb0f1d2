"""What people and programs see as it happens: notifications, the live feed, the live page, timelines."""
