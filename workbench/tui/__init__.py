"""``workbench tui``: a terminal dashboard that displays and controls runs, without torch.

``app`` is the application, ``host`` what screens need of it. ``home``, ``run`` and ``study`` hold a screen each, whose
``screen`` module is the only one that knows the terminal; its neighbors read the data (``home.board``, ``study.state``;
``follow`` reads single runs) and turn them into text and plots. ``charts`` draws plots with characters. A screen never
writes to a run: ``run.actions`` puts commands into the run's ``control/``.
"""
