"""`python -m course_lib`."""

from course_lib.cli import app

app(prog_name="python -m course_lib")
