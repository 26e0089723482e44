"""Schedules: a file of entries, their ticks in one total order, and the generate and handle that serve them.

crontab    the file -> entries, checked
ticks      an entry -> the times at which it is due
message    a tick as it travels: NAME@TIME
"""
