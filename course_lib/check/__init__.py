"""Checkers for the exercises, one module a notebook: what is wrong with an answer, said in words.

    from course_lib.check import simclr as check

    check.nt_xent(my_nt_xent)   # ✓ nt_xent: 7 properties hold …   or   ✗ nt_xent: your loss counts each anchor …
"""
