import thalweg as tw

tw.save("no/such/folder/checkpoint", {"w": tw.ones((3,))})

# -> FileNotFoundError: save_no_folder.py:3: no folder no/such/folder to save checkpoint in. Make it first.
