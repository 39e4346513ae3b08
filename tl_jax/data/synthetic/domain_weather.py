"""Tables of the weather domain."""

from __future__ import annotations

from tl_jax.data.synthetic.spec import Chain, Domain, service

WEATHER = Domain(
    "weather",
    (
        service(
            "get_weather",
            "Give the weather right now.",
            ["city city city name"],
            requests=[
                "get the weather[ in {city}|]",
                "check the current weather[ in {city}|]",
                "look outside in {city} and report the weather",
                "find out how the weather is in {city} now",
                "check how the sky looks[ in {city}|] at this moment",
            ],
            questions=[
                "How is the weather[ in {city}|] now",
                "What is the weather like in {city}",
                "Is it raining in {city} right now",
                "What does the weather look like[ in {city}|]",
            ],
            output={"sky": "enum:sunny,cloudy,rainy,windy,foggy", "degrees": "int:1-38"},
        ),
        service(
            "get_weather_forecast",
            "Predict the weather of the next days.",
            ["city city city name", "days int:2-10 number of days"],
            requests=[
                "get the forecast for {city}[ for the next {days} days|]",
                "predict the weather[ in {city}|] for {days} days",
                "show me the {days} day forecast[ of {city}|]",
                "find out how the weather in {city} will be over {days} days",
                "look ahead at the weather[ in {city}|] for {days} days",
            ],
            questions=[
                "How will the weather be in {city} in the next {days} days",
                "What is the {days} day forecast[ for {city}|]",
                "Will it rain[ in {city}|] during the next {days} days",
            ],
            output={"trend": "enum:warmer,colder,wetter,drier", "rain": "int:5-95"},
        ),
        service(
            "get_weather_alerts",
            "List storm warnings of a region.",
            ["region region region name"],
            requests=[
                "list the storm warnings[ for {region}|]",
                "check for weather alerts[ in {region}|]",
                "see if there is a storm warning in {region}",
                "look up the alerts for {region}",
                "check whether storms are expected[ in {region}|]",
            ],
            questions=[
                "Are there weather alerts[ in {region}|]",
                "Is there a storm warning for {region}",
                "Which warnings are out[ for {region}|]",
            ],
            output={"alert": "enum:storm,flood,heat,snow,none", "level": "int:1-5"},
        ),
        service(
            "get_sunrise",
            "Give the time the sun comes up.",
            ["city city city name", "date? date calendar day"],
            requests=[
                "get the sunrise time[ in {city}|]",
                "find out when the sun comes up in {city}",
                "look up sunrise[ for {city}|]",
                "check what time the sun rises in {city}",
                "tell me the hour of sunrise[ in {city}|]",
            ],
            questions=[
                "When is sunrise[ in {city}|]",
                "What time does the sun rise in {city}",
                "When does the sun come up[ in {city}|]",
            ],
            options={"date": ("on {date}", "for {date}")},
            output={"sunrise": "time"},
        ),
        service(
            "get_sunset",
            "Give the time the sun goes down.",
            ["city city city name", "date? date calendar day"],
            requests=[
                "get the sunset time[ in {city}|]",
                "find out when the sun goes down in {city}",
                "look up sunset[ for {city}|]",
                "check what time the sun sets in {city}",
                "tell me the hour of sunset[ in {city}|]",
            ],
            questions=[
                "When is sunset[ in {city}|]",
                "What time does the sun set in {city}",
                "When does the sun go down[ in {city}|]",
            ],
            options={"date": ("on {date}", "for {date}")},
            output={"sunset": "time"},
        ),
        service(
            "find_station",
            "Find the weather station of a city.",
            ["city city city name"],
            requests=[
                "find the weather station[ of {city}|]",
                "look up the station code for {city}",
                "get the code of the weather station[ in {city}|]",
                "find which weather station covers {city}",
                "search the nearest weather station[ in {city}|]",
            ],
            questions=[
                "Which weather station is[ in {city}|] near me",
                "What is the weather station of {city}",
                "Which station serves[ {city}|my city]",
            ],
            output={"station_id": "code", "height": "int:10-900"},
        ),
        service(
            "get_station_reading",
            "Read one sensor of a weather station.",
            [
                "station_id code station code",
                "sensor enum:wind,rain,pressure,humidity sensor name",
            ],
            requests=[
                "read the {sensor} sensor[ of station {station_id}|]",
                "get the {sensor} value[ at {station_id}|]",
                "check the {sensor} measured by station {station_id}",
                "look up {sensor} at weather station {station_id}",
                "take the {sensor} reading[ of station {station_id}|]",
            ],
            questions=[
                "What {sensor} does station {station_id} measure",
                "What is the {sensor} value[ at station {station_id}|]",
                "How much {sensor} is shown[ at {station_id}|]",
            ],
            output={"value": "amount", "unit": "enum:mm,kmh,hPa,percent"},
        ),
    ),
    (
        Chain(
            "find_station",
            "station_id",
            "get_station_reading",
            "station_id",
            (
                "read its {sensor} sensor",
                "get the {sensor} value there",
                "tell me the {sensor} it measures",
                "take the {sensor} reading",
            ),
        ),
    ),
)
