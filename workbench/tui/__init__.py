"""``workbench tui``: a terminal dashboard that displays and controls runs, without torch.

``app`` is the application, ``host`` what screens need of it, and each folder except ``charts`` holds one screen. A
screen's ``screen`` module is the only one that knows the terminal; its neighbors read the data (``home.board``,
``run.follow``, ``study.state``) and turn them into text and plots. ``charts`` draws plots with characters. A screen
never writes to a run: ``commands`` puts commands into the run's ``control/``.
"""
