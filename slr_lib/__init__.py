"""Isolated sign recognition for Russian Sign Language: video -> landmarks -> clips -> model -> metrics -> charts."""
