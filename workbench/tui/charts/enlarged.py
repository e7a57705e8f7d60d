"""A picture that fills the screen when asked to, and shrinks again."""

from textual.widget import Widget


class Enlarged(Widget):
    """What can be as large as the screen."""

    ALLOW_MAXIMIZE = True

    def action_toggle_maximize(self) -> None:
        if self.screen.maximized is self:
            self.screen.minimize()
        else:
            self.screen.maximize(self, container=False)
