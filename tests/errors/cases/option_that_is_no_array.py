import thalweg as tw


class Settings:
    rate = 0.1


tw.function(lambda x, settings: x * settings.rate)(tw.ones((2,)), Settings())

# -> TracingError: option_that_is_no_array.py:8: lambda(): settings is a Settings, which is neither an array nor a
#    nested structure of arrays. If it is an option, name it: static=('settings',).
