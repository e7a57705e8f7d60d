"""``workbench tui``: watch, understand and steer runs from a terminal, without torch.

``app`` is the way in, and every folder but ``charts`` is a screen. There, ``screen`` alone knows the terminal; what it
shows is read, and put into words and plots, beside it: ``home.board`` follows all runs, ``run.feed`` one of them,
``study.studied`` a study. ``charts`` draws plots as text. ``steer`` says what a command will do, and sends it: a screen
never writes to a run, it drops commands into its ``control/``.
"""
