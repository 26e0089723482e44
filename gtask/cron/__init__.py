"""Schedules: a file of entries, their ticks in one total order, and the generate and handle that serve them.

- message: a tick as it travels, NAME@TIME
- crontab: the file -> entries, checked
- ticks: an entry -> the times at which it is due
- position: where generation stands
- agenda: what is due after a position, and what is missed
- source: the generate
"""
