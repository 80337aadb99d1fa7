"""What a centre prints: a referral slip, a doctor's prescription; each as a page, and as a PDF with every script shaped.

``composing`` says what stands on a paper, once for both. ``making`` lets a short-lived program of its own draw the PDF,
since what shapes letters takes 60 MB that a centre's server does not have to spare; ``drawing`` is that program's.
Nothing is written to the disk, and no paper has a file name with a patient's name in it.
"""
